refute_test(kernels
  kernels/activations_test.cc
  kernels/cpu_attention_test.cc
  kernels/cpu_context_test.cc
  kernels/cpu_elementwise_test.cc
  kernels/cpu_math_test.cc
  kernels/cpu_matmul_test.cc
  kernels/cpu_read_bandwidth_test.cc
  kernels/cpu_tiles_test.cc
  kernels/cuda_tiles_test.cc
  kernels/dequantize_test.cc
  kernels/half_test.cc
  kernels/oracle_test.cc
  kernels/route_test.cc
)
target_link_libraries(kernels_tests PRIVATE kernels)

# A file compiled for an instruction set may define no symbol that the linker could prefer over the
# one compiled for every processor.
set(portable_only 1)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(portable_only 0)
endif()
add_test(NAME kernels.cpu_symbols
  COMMAND ${CMAKE_COMMAND} -DNM=${CMAKE_NM} "-DOBJECTS=$<TARGET_OBJECTS:kernels>"
    -DPORTABLE_ONLY=${portable_only} -P ${CMAKE_CURRENT_LIST_DIR}/cpu_symbols.cmake)
