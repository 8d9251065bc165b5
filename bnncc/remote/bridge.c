/* Lets TVM's RPC server call the entries of a compiled model; all tensors are of bytes.
 *
 * bnncc_call(entry, workspace, inputs..., outputs...) gives the entry's code; bnncc_read(path, content) reads the beginning of a file of the device, which
 * says what it is. Compiled beside entries.h: X(function, number of inputs) for each entry, and VARIANT, the model's function of this name. The few declarations
 * of TVM's calling convention that it needs are given here, so that the device's compiler needs no header of TVM.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "entries.h"

typedef struct {
    int32_t kind;
    uint32_t padding;
    union {
        int64_t number;
        void *pointer;
    } value;
} any;

typedef struct {
    void *data;
    int32_t device_type, device_id, ndim;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} tensor;

enum { NUMBER = 1, TENSOR_OBJECT = 70, OBJECT_HEADER = 24, NO_VARIANT = -1000, TOO_MANY = -1001, MOST = 64 };

typedef int32_t function(void *, void *, void *);

#define X(symbol, inputs) extern function symbol;
ENTRIES
#undef X

extern const char *VARIANT(void);

static const struct {
    function *run;
    int32_t inputs;
} entries[] = {
#define X(symbol, inputs) {symbol, inputs},
    ENTRIES
#undef X
};

static const tensor *tensor_of(const any *argument)
{
    return argument->kind == TENSOR_OBJECT ? (const tensor *)((char *)argument->value.pointer + OBJECT_HEADER) : argument->value.pointer;
}

static void *data_of(const any *argument)
{
    const tensor *found = tensor_of(argument);

    return (char *)found->data + found->byte_offset;
}

static int give(any *result, int64_t number)
{
    result->kind = NUMBER;
    result->padding = 0;
    result->value.number = number;
    return 0;
}

int __tvm_ffi_bnncc_call(void *self, const any *arguments, int32_t count, any *result)
{
    const int64_t entry = arguments[0].value.number;
    void *tensors[MOST];

    (void)self;
    if (!VARIANT())
        return give(result, NO_VARIANT);
    if (count - 2 > MOST)
        return give(result, TOO_MANY);
    for (int32_t i = 2; i < count; ++i)
        tensors[i - 2] = data_of(&arguments[i]);
    return give(result, entries[entry].run(tensors, tensors + entries[entry].inputs, data_of(&arguments[1])));
}

int __tvm_ffi_bnncc_read(void *self, const any *arguments, int32_t count, any *result)
{
    FILE *file = fopen(data_of(&arguments[0]), "rb");
    size_t length = 0;

    (void)self, (void)count;
    if (file) {
        length = fread(data_of(&arguments[1]), 1, (size_t)*tensor_of(&arguments[1])->shape, file);
        fclose(file);
    }
    return give(result, (int64_t)length);
}
