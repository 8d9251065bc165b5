/* A trial on a device: bnncc_trial(paths, numbers, nanoseconds, inputs..., outputs...), all tensors of bytes, gives 0 or what went wrong.
 *
 * The candidate runs in a process of its own, as it may crash, write where it must not, or never end: none of that may end TVM's RPC server. What
 * it writes comes back in memory that both processes see.
 */
#define _GNU_SOURCE
#include "measure.c"

#include <dlfcn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server_call.h"

enum { MOST = 64, GUARD = 64, EVICTING = 1 << 21, STALE = 0xA5 };
enum { NO_VARIANT = -1000, TOO_MANY = -1001, OUTSIDE = -1002, NO_LIBRARY = -1003, NO_MEMORY = -1004, KILLED = -2000 };

/* int64 each: calls that are timed (0: none), seconds, kernels (the candidate, and the untuned one where it is 2), inputs, outputs, workspace bytes of each kernel */
enum { CALLS, SECONDS, KERNELS, INPUTS, OUTPUTS, WORKSPACE, NUMBERS = WORKSPACE + 2 };

struct shared {
    int64_t code;
    unsigned char bytes[];
};

static uint64_t size_of(const any *argument)
{
    return (uint64_t)*tensor_of(argument)->shape;
}

static uint64_t room_for(uint64_t size)
{
    return (size + 2 * GUARD + 63) / 64 * 64;
}

static int stale(const unsigned char *bytes, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++)
        if (bytes[i] != STALE)
            return 0;
    return 1;
}

static int64_t run(const char *path, const int64_t *numbers, const any *inputs, const any *outputs, unsigned char *room, uint64_t room_bytes, uint64_t *ns)
{
    const int32_t kernels = (int32_t)numbers[KERNELS], count = (int32_t)numbers[INPUTS], made = (int32_t)numbers[OUTPUTS];
    void *in[MOST], *out[2][MOST], *ins[2] = {in, in}, *outs[2] = {out[0], out[1]}, *workspaces[2];
    uint64_t sizes[MOST];
    kernel *functions[2];
    int64_t code;
    unsigned char *evicting;

    for (int32_t i = 0; i < count; i++) {
        in[i] = data_of(&inputs[i]);
        sizes[i] = size_of(&inputs[i]);
    }
    for (int32_t k = 0; k < kernels; k++, path += strlen(path) + 1) {
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        const char *(*variant)(void) = library ? (const char *(*)(void))dlsym(library, "candidate_variant") : NULL;
        unsigned char *next = room + (uint64_t)k * room_bytes;

        functions[k] = library ? (kernel *)dlsym(library, "candidate_run") : NULL;
        if (!functions[k] || !variant)
            return NO_LIBRARY;
        if (!variant())
            return NO_VARIANT;
        for (int32_t i = 0; i < made; i++) {
            out[k][i] = next + GUARD;
            next += room_for(size_of(&outputs[i]));
        }
        if (posix_memalign(&workspaces[k], 64, (size_t)numbers[WORKSPACE + k] + 64))
            return NO_MEMORY;
        memset(workspaces[k], STALE, (size_t)numbers[WORKSPACE + k]); /* a kernel must not rely on what it finds */
    }
    code = functions[0](ins[0], outs[0], workspaces[0]);
    if (code || !numbers[CALLS])
        return code;
    evicting = calloc(EVICTING, 1);
    if (!evicting)
        return NO_MEMORY;
    return measure(kernels, functions, ins, outs, workspaces, count, sizes, evicting, EVICTING, (int32_t)numbers[CALLS], ns);
}

int __tvm_ffi_bnncc_trial(void *self, const any *arguments, int32_t count, any *result)
{
    const char *paths = data_of(&arguments[0]);
    const int64_t *numbers = data_of(&arguments[1]);
    const any *inputs = arguments + 3, *outputs = inputs + numbers[INPUTS];
    const uint64_t timed = size_of(&arguments[2]);
    uint64_t bytes = 0;
    struct shared *both;
    unsigned char *room;
    int64_t code;
    int status;
    pid_t child;

    (void)self;
    if (count - 3 > MOST)
        return give(result, TOO_MANY);
    for (int64_t i = 0; i < numbers[OUTPUTS]; i++)
        bytes += room_for(size_of(&outputs[i]));
    both = mmap(NULL, sizeof *both + 64 + timed + 2 * bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (both == MAP_FAILED)
        return give(result, NO_MEMORY);
    room = (unsigned char *)(((uintptr_t)both->bytes + 63) / 64 * 64);
    memset(room, STALE, 2 * bytes);
    child = fork();
    if (child == 0) {
        alarm((unsigned)numbers[SECONDS]);
        both->code = run(paths, numbers, inputs, outputs, room, bytes, (uint64_t *)(room + 2 * bytes));
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) < 0)
        code = NO_MEMORY;
    else
        code = WIFSIGNALED(status) ? KILLED - WTERMSIG(status) : both->code;
    for (int64_t i = 0; i < numbers[OUTPUTS] && code == 0; i++) {
        const uint64_t size = size_of(&outputs[i]);

        if (!stale(room, GUARD) || !stale(room + GUARD + size, room_for(size) - GUARD - size))
            code = OUTSIDE;
        memcpy(data_of(&outputs[i]), room + GUARD, size);
        room += room_for(size);
    }
    if (code == 0)
        memcpy(data_of(&arguments[2]), (unsigned char *)(((uintptr_t)both->bytes + 63) / 64 * 64) + 2 * bytes, timed);
    munmap(both, sizeof *both + 64 + timed + 2 * bytes);
    return give(result, code);
}
