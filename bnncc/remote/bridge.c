/* Lets TVM's RPC server call the entries of a compiled model: bnncc_call(entry, workspace, inputs..., outputs...) gives the entry's code.
 *
 * Compiled beside entries.h: X(function, number of inputs) for each entry, and VARIANT, the model's function of this name.
 */
#include "server_call.h"

#include "entries.h"

enum { NO_VARIANT = -1000, TOO_MANY = -1001, MOST = 512 };

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
