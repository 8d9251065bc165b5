/* Compiled and loaded when a network is profiled: the clock between its steps, and what this machine can do at most.
 *
 * A limit is measured, not written down: each formulation's least mix of instructions runs on twelve independent sums with operands in the
 * first-level cache. No kernel of that formulation can be faster on this machine.
 */
#define _POSIX_C_SOURCE 200112L
#define _ISOC11_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct recorder {
    uint64_t last, *ns;
};

static void after(void *context, int32_t step)
{
    struct recorder *r = context;

    r->ns[step] = now() - r->last;
    r->last = now();
}

typedef int32_t profiled(const void *in, void *out, void *workspace, void (*after)(void *, int32_t), void *context);
typedef int32_t profiled_shared(void *threads, const void *in, void *out, void *workspace, void (*after)(void *, int32_t), void *context);

/* Run the network once and write the nanoseconds of each step. */
int32_t record(profiled *run, const void *in, void *out, void *workspace, uint64_t *ns)
{
    struct recorder r = {now(), ns};

    return run(in, out, workspace, after, &r);
}

/* The same for a call that threads share. */
int32_t record_shared(profiled_shared *run, void *threads, const void *in, void *out, void *workspace, uint64_t *ns)
{
    struct recorder r = {now(), ns};

    return run(threads, in, out, workspace, after, &r);
}

/* Of 32 bytes, in one register or two: the C library's memcpy is no limit, on some processors and sizes it is ten times as slow. */
typedef uint64_t vector __attribute__((vector_size(32)));

#define STREAMS(name, how) \
    how static void copy_##name(vector *to, const vector *from, uint64_t count) \
    { \
        for (uint64_t i = 0; i < count; i += 4) { \
            const vector a = from[i], b = from[i + 1], c = from[i + 2], d = from[i + 3]; \
            to[i] = a, to[i + 1] = b, to[i + 2] = c, to[i + 3] = d; \
            __asm__ volatile("" : : : "memory"); /* or the compiler calls memcpy */ \
        } \
    } \
    how static void read_##name(vector *to, const vector *from, uint64_t count) \
    { \
        vector a = {0}, b = {0}, c = {0}, d = {0}; \
        for (uint64_t i = 0; i < count; i += 4) \
            a |= from[i], b |= from[i + 1], c |= from[i + 2], d |= from[i + 3]; \
        *to = a | b | c | d; \
    }

STREAMS(plain, )
#if defined(__x86_64__)
STREAMS(avx2, __attribute__((target("avx2"))))
#endif

/* Nanoseconds to copy so many bytes, a multiple of 128, or only to read them; the least of some tries. */
double stream_ns(uint64_t nbytes, int32_t only_read)
{
    const uint64_t times = nbytes < (1 << 20) ? (1 << 20) / nbytes + 1 : 1;
    void (*stream)(vector *, const vector *, uint64_t) = only_read ? read_plain : copy_plain;
    vector *from = aligned_alloc(64, nbytes), *to = aligned_alloc(64, nbytes);
    uint64_t best = UINT64_MAX;

#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        stream = only_read ? read_avx2 : copy_avx2;
#endif
    if (from && to) {
        memset(from, 1, nbytes);
        memset(to, 1, nbytes);
        for (int i = 0; i < 12; i++) {
            const uint64_t start = now();
            for (uint64_t k = 0; k < times; k++)
                stream(to, from, nbytes / sizeof(vector));
            if (now() - start < best)
                best = now() - start;
        }
    }
    free(from);
    free(to);
    return (double)best / (double)times;
}

#if defined(__x86_64__)
#define TWELVE(F) F("0") F("1") F("2") F("3") F("4") F("5") F("6") F("7") F("8") F("9") F("10") F("11")
#define CLOBBER "memory", "eax", "ecx", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#define RUN(F) \
    for (int i = 0; i < rounds; i++) \
        __asm__ volatile(TWELVE(F) : : "r"(operands) : CLOBBER)

#define ZERO(n) "vpxor %%xmm" n ",%%xmm" n ",%%xmm" n "\n\t"
#define FMA(v, n) "vfmadd231ps %%" v "14,%%" v "15,%%" v n "\n\t"
#define INT16(v, n) "vpmaddwd (%0),%%" v "15,%%" v "12\n\tvpaddd %%" v "12,%%" v n ",%%" v n "\n\t"
/* a table of four inputs for 32 outputs, and the sum */
#define LOOKUP(v, n) "vpshufb (%0),%%" v "15,%%" v "12\n\tvpaddb %%" v "12,%%" v n ",%%" v n "\n\t"
/* two cases, the majority of one in a register and of the other from memory, which make a pair, and a half of what adds two such pairs and what they carry */
#define SLICED(n) "movzbl (%0),%%eax\n\tmovzbl 1(%0),%%ecx\n\tvmovdqa (%0),%%ymm12\n\tvpxor 32(%0),%%ymm12,%%ymm13\n\t" \
    "vpxor %%ymm" n ",%%ymm13,%%ymm14\n\tvpxor %%ymm" n ",%%ymm12,%%ymm15\n\tvpor %%ymm13,%%ymm15,%%ymm15\n\tvpxor %%ymm14,%%ymm13,%%ymm" n "\n\t" \
    "vpxor %%ymm14,%%ymm12,%%ymm12\n\tvpandn %%ymm12,%%ymm13,%%ymm12\n\tvpxor %%ymm14,%%ymm15,%%ymm13\n\tvpxor %%ymm12,%%ymm15,%%ymm15\n\t"
#define NIBBLES(n) "vpxor (%0),%%ymm15,%%ymm12\n\tvpand %%ymm14,%%ymm12,%%ymm13\n\tvpsrlw $4,%%ymm12,%%ymm12\n\tvpand %%ymm14,%%ymm12,%%ymm12\n\t" \
    "vpshufb %%ymm13,%%ymm15,%%ymm13\n\tvpshufb %%ymm12,%%ymm15,%%ymm12\n\tvpaddb %%ymm12,%%ymm13,%%ymm13\n\tvpaddb %%ymm13,%%ymm" n ",%%ymm" n "\n\t"
/* bits of the difference of 16 words summed by full adders, and those of weight 16 counted */
#define ADD(n) "vpxor %%ymm12,%%ymm13,%%ymm14\n\tvpand %%ymm12,%%ymm13,%%ymm12\n\tvpand %%ymm14,%%ymm" n ",%%ymm13\n\t" \
    "vpxor %%ymm14,%%ymm" n ",%%ymm" n "\n\tvpxor %%ymm12,%%ymm13,%%ymm12\n\t"
#define ADD_PAIR(n) "vpxor (%0),%%ymm15,%%ymm12\n\tvpxor 32(%0),%%ymm15,%%ymm13\n\t" ADD(n)
#define ADD_FOUR(n) ADD_PAIR(n) ADD_PAIR(n) ADD(n)
#define COUNT(n) "vpand %%ymm15,%%ymm12,%%ymm13\n\tvpsrlw $4,%%ymm12,%%ymm12\n\tvpand %%ymm15,%%ymm12,%%ymm12\n\tvpshufb %%ymm13,%%ymm15,%%ymm13\n\t" \
    "vpshufb %%ymm12,%%ymm15,%%ymm12\n\tvpaddb %%ymm12,%%ymm13,%%ymm13\n\tvpsadbw %%ymm15,%%ymm13,%%ymm13\n\tvpaddq %%ymm13,%%ymm" n ",%%ymm" n "\n\t"
#define CARRY_SAVE(n) ADD_FOUR(n) ADD_FOUR(n) ADD_FOUR(n) ADD_FOUR(n) ADD(n) ADD(n) ADD(n) COUNT(n)
#define POPCOUNT(n) "vpxorq (%0),%%zmm15,%%zmm12\n\tvpopcntq %%zmm12,%%zmm12\n\tvpaddq %%zmm12,%%zmm" n ",%%zmm" n "\n\t"
#define SLICED512(n) "vmovdqa64 (%0),%%zmm12\n\tvpternlogq $150,64(%0),%%zmm12,%%zmm" n "\n\tvpternlogq $232,%%zmm12,%%zmm14,%%zmm15\n\t"
#define SUM(v, n) "vaddps (%0),%%" v n ",%%" v n "\n\t"
#define SUM256(n) SUM("ymm", n)
#define SUM512(n) SUM("zmm", n)
#define FMA256(n) FMA("ymm", n)
#define FMA512(n) FMA("zmm", n)
#define LOOKUP256(n) LOOKUP("ymm", n)
#define INT16_256(n) INT16("ymm", n)
#define INT16_512(n) INT16("zmm", n)

static int mix(int number, int rounds, const unsigned char *operands)
{
    switch (number) {
    case 0: RUN(FMA256); return 1;
    case 1: RUN(NIBBLES); return 1;
    case 2: RUN(LOOKUP256); return 1;
    case 3: RUN(SLICED); return 1;
    case 4: RUN(INT16_256); return 1;
    case 5: RUN(FMA512); return 1;
    case 6: RUN(POPCOUNT); return 1;
    case 7: RUN(SLICED512); return 1;
    case 8: RUN(INT16_512); return 1;
    case 9: RUN(SUM256); return 1;
    case 10: RUN(SUM512); return 1;
    case 11: RUN(CARRY_SAVE); return 1;
    }
    return 0;
}
#else
#define ZERO(n) ""
static int mix(int number, int rounds, const unsigned char *operands)
{
    (void)number, (void)rounds, (void)operands;
    return 0;
}
#endif

/* Nanoseconds of one step of a mix; the least of some tries, and 0 where the mix is not known here. */
double mix_ns(int32_t number)
{
    static unsigned char operands[128] __attribute__((aligned(64)));
    const int rounds = 2000;
    uint64_t best = UINT64_MAX;

#if defined(__x86_64__)
    __asm__ volatile(TWELVE(ZERO) ZERO("12") ZERO("13") ZERO("14") ZERO("15") : : : CLOBBER);
#endif
    for (int i = 0; i < 40; i++) {
        const uint64_t start = now();
        if (!mix(number, rounds, operands))
            return 0;
        if (now() - start < best)
            best = now() - start;
    }
#if defined(__x86_64__)
    __asm__ volatile("vzeroupper" : : : CLOBBER);
#endif
    return (double)best / (12.0 * rounds);
}
