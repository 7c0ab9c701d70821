/* Entry: fresh RAM is zero and every register is 0, so there is nothing to clear. Halts by ecall. */
    .section .text.start, "ax"
    .globl _start
_start:
    lui sp, %hi(__stack_top)
    addi sp, sp, %lo(__stack_top)
    call main
    ecall
