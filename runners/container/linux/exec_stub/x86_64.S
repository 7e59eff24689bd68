# The small program for x86-64: see machine_code.py for what it does, which holds what this is assembled to.
# A test assembles it (GNU as) and compares:
#   as --defsym DATA_AT=... --defsym REPORT=... --defsym LISTENER=... x86_64.S
#
# It has no stack frame, no data of its own and no relocation, so that its bytes are the same wherever they lie.
#
#   rbx   argc
#   r13d  the descriptor for what fails: the report
#   r14   DATA_AT: the two words that a listener's number is handed on by
#   r15   the row of the table that is at hand: number, five arguments, one unused, flags (eight words)

        .intel_syntax noprefix
        .set    EXECVE, 59
        .set    WRITE, 1
        .set    EXIT_GROUP, 231
        .set    ETIMEDOUT, 110
        .set    WAITS, 1 << 28          # how often it looks for an answer
        .set    FLAGS, 56               # in a row; its low byte is what the call is for, the second holds the flags
        .globl  _start

_start:
        # At entry: [rsp] argc, [rsp+8] argv[0], [rsp+16] argv[1] ..., NULL, envp ... (System V ABI)
        mov     ebx, [rsp]
        mov     r12, [rsp + 8]
        # argv[0] is two bytes, none of them zero: report = (first - 1) * 255 + second - 1
        movzx   r13d, byte ptr [r12]
        dec     r13d
        imul    r13d, r13d, 255
        movzx   eax, byte ptr [r12 + 1]
        lea     r13d, [r13 + rax - 1]
        mov     r14d, OFFSET DATA_AT
        lea     r15, [r14 + 16]

next:   mov     rax, [r15]
        test    rax, rax
        js      run                     # a negative number ends the table
        mov     rdi, [r15 + 8]
        mov     rsi, [r15 + 16]
        mov     rdx, [r15 + 24]
        mov     r10, [r15 + 32]
        mov     r8, [r15 + 40]
        test    byte ptr [r15 + FLAGS + 1], REPORT >> 8
        cmovne  edi, r13d               # the report is the call's first argument
        syscall
        test    rax, rax
        js      failed
        test    byte ptr [r15 + FLAGS + 1], LISTENER >> 8
        je      done
        # The call made a listener. From here on each call may be one that the agent has to answer, so none is made:
        # its number plus one is left in memory, and another process writes there when it has a copy.
        inc     eax
        mov     [r14], eax
        mov     ecx, WAITS
wait:   pause
        cmp     dword ptr [r14 + 8], 0
        jne     done
        dec     ecx
        jne     wait
        mov     eax, -ETIMEDOUT
        jmp     failed
done:   add     r15, 64
        jmp     next

run:    # execve(argv[1], argv + 2, envp); envp begins behind argv's NULL, at rsp + 8 * (argc + 2)
        mov     rdi, [rsp + 16]
        lea     rsi, [rsp + 24]
        lea     rdx, [rsp + rbx * 8 + 16]
        mov     eax, EXECVE
        syscall

failed: # write(report, what << 16 | errno, 4); exit_group(127). After the table, "what" is 0: to execute.
        neg     eax
        movzx   ecx, byte ptr [r15 + FLAGS]
        shl     ecx, 16
        or      eax, ecx
        push    rax
        mov     edi, r13d
        mov     rsi, rsp
        mov     edx, 4
        mov     eax, WRITE
        syscall
        mov     edi, 127
        mov     eax, EXIT_GROUP
        syscall
        hlt                             # privileged: it kills the process where a filter forbids even to exit
