/* A plugin for qemu-aarch64 that counts executed instructions between `orr x9, x9, x9` and `orr x10, x10, x10`, which no compiler emits.
 * Prints all, those on vector registers that are no loads or stores, and loads and stores of vector registers.
 *     gcc -O2 -shared -fPIC -o libcount.so count_instructions.c && qemu-aarch64 -plugin ./libcount.so program
 * The few declarations that it needs of version 1 of QEMU's plugin interface are given here: Debian packages no header. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *), int, void *);
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int, void *, uint64_t);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

enum { ARITHMETIC, MEMORY, OTHER, KINDS };
static uint64_t counts[KINDS];

static int kind_of(uint32_t code)
{
    if ((code & 0x0a000000) == 0x08000000) /* loads and stores; bit 26 says vector register */
        return code >> 26 & 1 ? MEMORY : OTHER;
    return (code & 0x0e000000) == 0x0e000000 ? ARITHMETIC : OTHER;
}

static void start(unsigned cpu, void *data) { memset(counts, 0, sizeof counts); }

static void stop(unsigned cpu, void *data)
{
    const uint64_t all = counts[ARITHMETIC] + counts[MEMORY] + counts[OTHER] - 1; /* the marker */
    fprintf(stderr, "%llu %llu %llu\n", (unsigned long long)all, (unsigned long long)counts[ARITHMETIC], (unsigned long long)counts[MEMORY]);
}

static void translated(plugin_id id, struct qemu_plugin_tb *block)
{
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); ++i) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        uint32_t code;
        memcpy(&code, qemu_plugin_insn_data(instruction), sizeof code);
        qemu_plugin_register_vcpu_insn_exec_inline(instruction, 0, &counts[kind_of(code)], 1);
        if (code == 0xaa090129 || code == 0xaa0a014a)
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, code == 0xaa090129 ? start : stop, 0, NULL);
    }
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
