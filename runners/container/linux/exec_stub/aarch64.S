// The small program for aarch64: see machine_code.py for what it does, which holds what this is assembled to.
// A test assembles it (GNU as) and compares:
//   aarch64-linux-gnu-as --defsym DATA_AT=... --defsym REPORT=... --defsym LISTENER=... aarch64.S
//
// It has no stack frame, no data of its own and no relocation, so that its bytes are the same wherever they lie.
//
//   x19  argc
//   w21  the descriptor for what fails: the report
//   x22  DATA_AT: the two words that a listener's number is handed on by
//   x23  the row of the table that is at hand: number, five arguments, one unused, flags (eight words)

        .set    EXECVE, 221
        .set    WRITE, 64
        .set    EXIT_GROUP, 94
        .set    ETIMEDOUT, 110
        .set    WAITS, 1 << 28          // how often it looks for an answer
        .set    FLAGS, 56               // in a row; the low byte is what the call is for, the second holds the flags
        .globl  _start

_start:
        // At entry: [sp] argc, [sp, 8] argv[0], [sp, 16] argv[1] ..., NULL, envp ...
        ldr     x19, [sp]
        ldr     x20, [sp, #8]
        // argv[0] is two bytes, none of them zero: report = (first - 1) * 255 + second - 1
        ldrb    w21, [x20]
        sub     w21, w21, #1
        mov     w24, #255
        mul     w21, w21, w24
        ldrb    w24, [x20, #1]
        add     w21, w21, w24
        sub     w21, w21, #1
        movz    x22, #(DATA_AT >> 16), lsl #16
        movk    x22, #(DATA_AT & 0xffff)
        add     x23, x22, #16

next:   ldr     x8, [x23]
        tbnz    x8, #63, run            // a negative number ends the table
        ldp     x0, x1, [x23, #8]
        ldp     x2, x3, [x23, #24]
        ldr     x4, [x23, #40]
        ldr     w24, [x23, #FLAGS]
        tst     w24, #REPORT
        csel    x0, x21, x0, ne         // the report is the call's first argument
        svc     #0
        tbnz    x0, #63, failed
        tbz     w24, #9, done           // LISTENER, of which tbz wants the bit's number
        .if     LISTENER - (1 << 9)
        .error  "LISTENER is another bit"
        .endif
        // The call made a listener. From here on each call may be one that the agent has to answer, so none is made:
        // its number plus one is left in memory, and another process writes there when it has a copy.
        add     w0, w0, #1
        str     w0, [x22]
        mov     w1, #WAITS
wait:   yield
        ldr     w2, [x22, #8]
        cbnz    w2, done
        subs    w1, w1, #1
        b.ne    wait
        mov     x0, #-ETIMEDOUT
        b       failed
done:   add     x23, x23, #64
        b       next

run:    // execve(argv[1], argv + 2, envp); envp begins behind argv's NULL, at sp + 8 * (argc + 2)
        ldr     x0, [sp, #16]
        add     x1, sp, #24
        add     x2, sp, #16
        add     x2, x2, x19, lsl #3
        mov     x8, #EXECVE
        svc     #0

failed: // write(report, what << 16 | errno, 4); exit_group(127). After the table, "what" is 0: to execute.
        neg     w0, w0
        ldrb    w24, [x23, #FLAGS]
        orr     w0, w0, w24, lsl #16
        str     x0, [sp, #-16]!
        mov     x1, sp
        mov     w0, w21
        mov     x2, #4
        mov     x8, #WRITE
        svc     #0
        mov     x0, #127
        mov     x8, #EXIT_GROUP
        svc     #0
        brk     #0                      // kills the process where a filter forbids even to exit
