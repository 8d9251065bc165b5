/* Calls functions of a compiled model in a process of another architecture, as told on standard input; results go to standard output.
 *
 * All numbers are 64-bit and little-endian. A request is
 *     kind, length of the symbol, the symbol, and
 *     kind 0 (text):  an argument; the answer is the length of the text that the function returns (-1 for NULL) and the text
 *     kind 1 (run):   bytes of the workspace, its alignment, numbers of inputs and outputs, the size of each, the inputs;
 *                     the answer is the function's code and the outputs
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAILED = 3 };

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(FAILED);
}

static void read_all(void *to, size_t size)
{
    if (fread(to, 1, size, stdin) != size)
        fail("a request ends in the middle");
}

static void write_all(const void *from, size_t size)
{
    if (fwrite(from, 1, size, stdout) != size)
        fail("the answer cannot be written");
}

static int64_t read_number(void)
{
    int64_t value;
    read_all(&value, sizeof value);
    return value;
}

static void *memory(int64_t size, int64_t alignment)
{
    void *found = NULL;
    if (posix_memalign(&found, (size_t)alignment, size ? (size_t)size : 1))
        fail("out of memory");
    return found;
}

static void answer_text(void *function)
{
    const int32_t argument = (int32_t)read_number();
    const char *text = ((const char *(*)(int32_t))function)(argument);
    const int64_t length = text ? (int64_t)strlen(text) : -1;
    write_all(&length, sizeof length);
    if (text)
        write_all(text, (size_t)length);
}

static void answer_run(void *function)
{
    const int64_t workspace_bytes = read_number(), alignment = read_number(), inputs = read_number(), outputs = read_number();
    const int64_t count = inputs + outputs;
    int64_t *sizes = memory((count + 1) * 8, 64);
    void **tensors = memory((count + 2) * (int64_t)sizeof(void *), 64), *workspace = memory(workspace_bytes, alignment);

    for (int64_t i = 0; i < count; ++i)
        sizes[i] = read_number();
    for (int64_t i = 0; i < count; ++i) {
        tensors[i] = memory(sizes[i], 64);
        if (i < inputs)
            read_all(tensors[i], (size_t)sizes[i]);
    }
    const int64_t code = ((int32_t(*)(void *, void *, void *))function)(tensors, tensors + inputs, workspace);
    write_all(&code, sizeof code);
    for (int64_t i = 0; i < count; ++i) {
        if (i >= inputs)
            write_all(tensors[i], (size_t)sizes[i]);
        free(tensors[i]);
    }
    free(sizes);
    free(tensors);
    free(workspace);
}

int main(int argc, char **argv)
{
    void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
    int64_t kind;

    if (!library)
        fail(argc == 2 ? dlerror() : "usage: runner LIBRARY");
    while (fread(&kind, sizeof kind, 1, stdin) == 1) {
        char symbol[1024] = "";
        const int64_t length = read_number();
        if (length < 0 || length >= (int64_t)sizeof symbol)
            fail("a symbol is too long");
        read_all(symbol, (size_t)length);
        void *function = dlsym(library, symbol);
        if (!function)
            fail(dlerror());
        if (kind)
            answer_run(function);
        else
            answer_text(function);
        if (fflush(stdout))
            fail("the answer cannot be written");
    }
    return 0;
}
