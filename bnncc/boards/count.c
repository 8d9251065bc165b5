/* A plugin of QEMU's code generator that counts the instructions of a firmware, block by block, with the cycles of two simple models of Arm cores.
 *
 * Prints on stderr, when the emulator ends, one line for each block that ran:  COUNT address instructions runs taken cycles_m4 cycles_m0
 * cycles: of one run in order; `taken` is how often the block was reached by a jump, which costs 2 more in both models.
 *   m4: loads 2, or 1 behind another load or store; stores 1; several registers 1 + n; division 7; all else 1.
 *   m0: loads and stores 2; several registers 1 + n; bl 2; all else 1.
 * No wait states of flash, no conflicts on the bus. For other processors than Arm's the instructions count, the cycles mean nothing. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int, void *);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
__attribute__((visibility("default"))) int qemu_plugin_version = 1;

struct block {
    uint64_t start, end, instructions, runs, taken, m4, m0;
    struct block *next;
};
static struct block *blocks;
static uint64_t last_end;

enum { OTHER, LOAD, STORE, SEVERAL, DIVIDE, CALL };

static int bits_of(unsigned x)
{
    int n = 0;
    for (; x; x &= x - 1)
        n++;
    return n;
}

/* The kind of a Thumb instruction of halfwords a and b; *n: registers that a transfer of several moves. */
static int kind_of(unsigned a, unsigned b, size_t size, int *n)
{
    if (size == 2) {
        if (a >= 0x4800 && a < 0x5000) /* from the literal pool */
            return LOAD;
        if (a >= 0x5000 && a < 0x6000)
            return (a >> 9 & 7) >= 3 ? LOAD : STORE;
        if (a >= 0x6000 && a < 0xa000)
            return a & 0x0800 ? LOAD : STORE;
        if ((a & 0xf000) == 0xc000)
            return *n = bits_of(a & 0xff), SEVERAL;
        if ((a & 0xf600) == 0xb400)
            return *n = bits_of(a & 0x1ff), SEVERAL;
        return OTHER;
    }
    if ((a & 0xfe40) == 0xe800)
        return *n = bits_of(b), SEVERAL;
    if ((a & 0xfe40) == 0xe840)
        return *n = 2, (a & 0xfff0) == 0xe8d0 && (b & 0xffe0) == 0xf000 ? LOAD : SEVERAL;
    if ((a & 0xfe00) == 0xf800)
        return a & 0x10 ? LOAD : STORE;
    if ((a & 0xffd0) == 0xfb90)
        return DIVIDE;
    if ((a & 0xf800) == 0xf000 && (b & 0xd000) == 0xd000)
        return CALL;
    if ((a & 0xee00) == 0xec00 && (b & 0x0e00) == 0x0a00)
        return a & 0x10 ? LOAD : STORE;
    return OTHER;
}

static void run(unsigned cpu, void *data)
{
    struct block *block = data;
    (void)cpu;
    block->runs++;
    block->taken += block->start != last_end;
    last_end = block->end;
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    struct block *block = calloc(1, sizeof *block);
    int follows_memory = 0;
    (void)id;
    block->instructions = qemu_plugin_tb_n_insns(tb);
    for (size_t i = 0; i < block->instructions; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
        size_t size = qemu_plugin_insn_size(instruction);
        uint16_t half[2] = {0, 0};
        int several = 0;
        memcpy(half, qemu_plugin_insn_data(instruction), size > 4 ? 4 : size);
        if (half[0] < 0xe800)
            size = 2; /* at the end of a page QEMU looks one halfword ahead and says 4 */
        if (!i)
            block->start = qemu_plugin_insn_vaddr(instruction);
        block->end = qemu_plugin_insn_vaddr(instruction) + size;
        int kind = kind_of(half[0], half[1], size, &several);
        block->m4 += kind == LOAD ? 2 - follows_memory : kind == SEVERAL ? 1 + several : kind == DIVIDE ? 7 : 1;
        block->m0 += kind == LOAD || kind == STORE || kind == CALL ? 2 : kind == SEVERAL ? 1 + several : 1;
        follows_memory = kind == LOAD || kind == STORE;
    }
    block->next = blocks;
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, run, 0, block);
}

static void report(qemu_plugin_id_t id, void *data)
{
    (void)id;
    (void)data;
    for (const struct block *b = blocks; b; b = b->next)
        if (b->runs)
            fprintf(stderr, "COUNT %llx %llu %llu %llu %llu %llu\n", (unsigned long long)b->start, (unsigned long long)b->instructions,
                    (unsigned long long)b->runs, (unsigned long long)b->taken, (unsigned long long)b->m4, (unsigned long long)b->m0);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info, (void)argc, (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_atexit_cb(id, report, NULL);
    return 0;
}
