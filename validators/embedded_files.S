// The bytes of the default subject, between labels that embedded_files.cc reads.
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

    .section .note.GNU-stack, "", %progbits
