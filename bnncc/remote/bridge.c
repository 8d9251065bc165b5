/* Lets TVM's RPC server call an entry of a compiled model: bnncc_call(workspace, tensors...), all of them tensors of bytes, gives the entry's code.
 *
 * Compiled with ENTRY, VARIANT (functions of the model) and INPUTS (how many of the tensors are read). The few declarations of TVM's calling convention that it
 * needs are given here, so that a board's compiler needs no header of TVM.
 */
#include <stddef.h>
#include <stdint.h>

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

enum { NUMBER = 1, TENSOR_POINTER = 7, TENSOR_OBJECT = 70, OBJECT_HEADER = 24, NO_VARIANT = -1000, TOO_MANY = -1001, MOST = 64 };

extern int32_t ENTRY(void *, void *, void *);
extern const char *VARIANT(void);

static void *data_of(const any *argument)
{
    const tensor *found = argument->kind == TENSOR_OBJECT ? (const tensor *)((char *)argument->value.pointer + OBJECT_HEADER) : argument->value.pointer;
    return (char *)found->data + found->byte_offset;
}

int __tvm_ffi_bnncc_call(void *self, const any *arguments, int32_t count, any *result)
{
    void *tensors[MOST];

    (void)self;
    result->kind = NUMBER;
    result->padding = 0;
    result->value.number = NO_VARIANT;
    if (!VARIANT())
        return 0;
    result->value.number = TOO_MANY;
    if (count > MOST)
        return 0;
    for (int32_t i = 1; i < count; ++i)
        tensors[i - 1] = data_of(&arguments[i]);
    result->value.number = ENTRY(tensors, tensors + INPUTS, data_of(&arguments[0]));
    return 0;
}
