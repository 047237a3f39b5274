// The bytes of the default subject and of the kill matrix, between labels that embedded_files.cc reads.
    .section .rodata
    .balign 64
    .global refute_embedded_model_begin
    .global refute_embedded_model_end
refute_embedded_model_begin:
    .incbin REFUTE_EMBEDDED_MODEL
refute_embedded_model_end:

    .balign 64
    .global refute_embedded_expectations_begin
    .global refute_embedded_expectations_end
refute_embedded_expectations_begin:
    .incbin REFUTE_EMBEDDED_EXPECTATIONS
refute_embedded_expectations_end:

    .balign 64
    .global refute_embedded_kill_matrix_begin
    .global refute_embedded_kill_matrix_end
refute_embedded_kill_matrix_begin:
    .incbin REFUTE_EMBEDDED_KILL_MATRIX
refute_embedded_kill_matrix_end:

    .section .note.GNU-stack, "", %progbits
