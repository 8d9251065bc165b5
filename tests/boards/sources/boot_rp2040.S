/* The first 252 bytes of an RP2040's flash, which its ROM copies to RAM and calls: the flash is mapped for plain reads (command 03h), then the program
 * behind them starts as after a reset. The ROM passes a return address where a debugger called it, else 0. */
.cpu cortex-m0plus
.thumb
.section .text
    push {lr}
    ldr r3, ssi
    movs r0, #0
    str r0, [r3, #8]        /* SSIENR: off while it is set up */
    movs r0, #4
    str r0, [r3, #0x14]     /* BAUDR: a quarter of the system's clock */
    ldr r0, frame
    str r0, [r3, #0]        /* CTRLR0: words of 32 bits, EEPROM reads */
    movs r0, #0
    str r0, [r3, #4]        /* CTRLR1: one word */
    ldr r0, spi
    ldr r1, control
    str r0, [r1]            /* SPI_CTRLR0: command 03h, 8 bits of it, 24 of address */
    movs r0, #1
    str r0, [r3, #8]        /* SSIENR: on */
    pop {r0}
    cmp r0, #0
    bne back
    ldr r0, program
    ldr r1, vtor
    str r0, [r1]
    ldmia r0!, {r2, r3}
    msr msp, r2
    bx r3
back:
    bx r0
    .align 2
ssi: .word 0x18000000
frame: .word 0x001f0300
spi: .word 0x03000218
control: .word 0x180000f4
program: .word 0x10000100
vtor: .word 0xe000ed08
