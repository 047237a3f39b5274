# On a GPU only: the presets leave the label out, ci/gpu runs the program on a machine that has one.
# They can be carried there: what is not linked statically beside the C library, ci/gpu takes along.
if(REFUTE_HAVE_CUDA)
  add_executable(cuda_tests
    cuda/attention_test.cc
    cuda/forward_test.cc
    cuda/kernels_test.cc
  )
  target_link_libraries(cuda_tests PRIVATE project_options falsifiers engine CUDA::cudart_static
    GTest::gtest GTest::gtest_main)
  target_link_options(cuda_tests PRIVATE -static-libstdc++ -static-libgcc)
  target_compile_definitions(cuda_tests PRIVATE REFUTE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")

  add_executable(cuda_bench cuda/bench.cc)
  target_link_libraries(cuda_bench PRIVATE project_options engine CUDA::cudart_static)
  target_link_options(cuda_bench PRIVATE -static-libstdc++ -static-libgcc)

  refute_cuda_objects(prefill_variants cuda/prefill_variants.cu)
  add_executable(prefill_bench cuda/prefill_bench.cc $<TARGET_OBJECTS:prefill_variants>)
  target_link_libraries(prefill_bench PRIVATE project_options kernels CUDA::cudart_static)
  target_link_options(prefill_bench PRIVATE -static-libstdc++ -static-libgcc)

  # A mistake for each tool of compute-sanitizer to find: what ci/gpu shows the tools with.
  add_executable(cuda_planted cuda/planted.cu)
  target_link_libraries(cuda_planted PRIVATE CUDA::cudart_static)
  set_target_properties(cuda_planted PROPERTIES
    CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON CUDA_ARCHITECTURES "${REFUTE_CUDA_ARCHITECTURES}")

  gtest_discover_tests(cuda_tests TEST_PREFIX cuda. DISCOVERY_TIMEOUT 60 PROPERTIES LABELS gpu)
endif()
