# Micro-benchmarks, outside the default build: `ninja -C build kernels_bench`.
find_package(benchmark QUIET)
if(benchmark_FOUND)
  add_executable(kernels_bench EXCLUDE_FROM_ALL bench/kernels_bench.cc)
  target_link_libraries(kernels_bench PRIVATE project_options kernels benchmark::benchmark)
endif()

# Instruction counts, which no neighbour on the machine disturbs. They are of the optimised build and
# of one processor family.
if(CMAKE_BUILD_TYPE STREQUAL RelWithDebInfo AND NOT REFUTE_SANITIZE
    AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  add_executable(kernel_instructions bench/kernel_instructions.cc)
  target_link_libraries(kernel_instructions PRIVATE project_options kernels)
  add_test(NAME kernels.instruction_counts
    COMMAND ${CMAKE_CURRENT_LIST_DIR}/kernel_instructions.py $<TARGET_FILE:kernel_instructions>
      ${CMAKE_CURRENT_LIST_DIR}/kernel_instructions.txt)
  set_tests_properties(kernels.instruction_counts PROPERTIES LABELS instructions)
endif()
