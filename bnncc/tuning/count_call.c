/* Calls a compiled model once between the marks of count_instructions.c: argv is a file with the inputs one after the other, then their sizes, 0, the sizes of
 * the outputs, 0, and the bytes of the workspace. The first call, which is not counted, touches all pages and binds all symbols. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 64

extern int32_t MODEL_RUN(const void *const *in, void *const *out, void *workspace);

static void *room(size_t size)
{
    void *found = NULL;
    if (posix_memalign(&found, 64, size + 64))
        exit(3);
    memset(found, 0, size + 64);
    return found;
}

int main(int argc, char **argv)
{
    void *in[MOST], *out[MOST];
    FILE *file = argc > 3 ? fopen(argv[1], "rb") : NULL;
    int at = 2, count = 0;
    if (!file)
        return 2;
    for (size_t size; at < argc && (size = strtoull(argv[at++], NULL, 10)) && count < MOST; count++) {
        in[count] = room(size);
        if (fread(in[count], 1, size, file) != size)
            return 2;
    }
    count = 0;
    for (size_t size; at < argc && (size = strtoull(argv[at++], NULL, 10)) && count < MOST; count++)
        out[count] = room(size);
    void *workspace = room(at < argc ? strtoull(argv[at], NULL, 10) : 0);
    int32_t code = MODEL_RUN((const void *const *)in, out, workspace);
    __asm__ volatile("orr x9, x9, x9" ::: "memory");
    code |= MODEL_RUN((const void *const *)in, out, workspace);
    __asm__ volatile("orr x10, x10, x10" ::: "memory");
    return code ? 4 : 0;
}
