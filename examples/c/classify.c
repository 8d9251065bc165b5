/* Classify an 8 x 8 grey image, 64 numbers from 0 to 16 on stdin, with the compiled example network. Build and run it as README.md says. */
#include <stdio.h>

#include "digits.h"

int main(void)
{
    _Alignas(DIGITS_WORKSPACE_ALIGN) static unsigned char workspace[DIGITS_WORKSPACE_BYTES];
    float image[DIGITS_INPUT_IMAGE_SIZE], logits[DIGITS_OUTPUT_LOGITS_SIZE];
    const struct digits_inputs in = {image};
    struct digits_outputs out = {logits};
    int best = 0;

    for (int i = 0; i < DIGITS_INPUT_IMAGE_SIZE; i++) {
        if (scanf("%f", &image[i]) != 1) {
            fprintf(stderr, "64 numbers are needed, number %d is missing\n", i + 1);
            return 2;
        }
        image[i] /= 16;
    }
    int32_t error = digits_run(&in, &out, workspace);
    if (error) {
        fprintf(stderr, "%s\n", digits_error(error));
        return 1;
    }
    for (int i = 0; i < DIGITS_OUTPUT_LOGITS_SIZE; i++) {
        printf("%d: %9.5f\n", i, logits[i]);
        if (logits[i] > logits[best])
            best = i;
    }
    printf("It is a %d.\n", best);
    return 0;
}
