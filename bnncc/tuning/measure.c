/* Times two kernels in turns. Between calls, what the kernel has in the caches is replaced and its inputs are read again, as in a network: the weights come
 * from further away, the input was just written. The lesser of what passed and of what this thread was given of its processor counts: a call of milliseconds on a
 * busy machine is interrupted, which the first shows and the second does not; the second takes longer to be read. */
#define _POSIX_C_SOURCE 199309L
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

typedef int32_t kernel(const void *in, void *out, void *workspace);

static uint64_t now(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static volatile uint64_t sink;

static void touch(const unsigned char *bytes, uint64_t size)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < size; i += 64)
        sum += bytes[i];
    sink = sum;
}

/* Call each of `count` kernels `calls` times, in turns, and write nanoseconds to ns[call * count + kernel]. */
int32_t measure(int32_t count, kernel *const *kernels, void *const *in, void *const *out, void *const *workspace, int32_t inputs,
                const uint64_t *input_bytes, const unsigned char *evicting, uint64_t evicting_bytes, int32_t calls, uint64_t *ns)
{
    for (int32_t call = 0; call < calls; call++)
        for (int32_t turn = 0; turn < count; turn++) {
            const int32_t k = call & 1 ? count - 1 - turn : turn;
            uint64_t passed, given;
            int32_t code;

            touch(evicting, evicting_bytes);
            for (int32_t i = 0; i < inputs; i++)
                touch(((unsigned char *const *)in[k])[i], input_bytes[i]);
            given = now(CLOCK_THREAD_CPUTIME_ID);
            passed = now(CLOCK_MONOTONIC);
            code = kernels[k](in[k], out[k], workspace[k]);
            passed = now(CLOCK_MONOTONIC) - passed;
            given = now(CLOCK_THREAD_CPUTIME_ID) - given;
            ns[call * count + k] = passed < given ? passed : given;
            if (code)
                return code;
        }
    return 0;
}
