# The selftest, in the build with fault sites. The whole matrix is no test yet: F112 survives on the
# oracle, and on a busy machine it takes longer than CI has. `refute selftest` measures it.
if(REFUTE_FAULTS)
  refute_test(selftest
    selftest/attempts_test.cc
    selftest/cli_selftest_test.cc
    selftest/compare_names_fault_test.cc
    selftest/selftest_test.cc
    selftest/worker_pool_test.cc
  )
  target_link_libraries(selftest_tests PRIVATE selftest)
  target_compile_definitions(selftest_tests PRIVATE REFUTE_BINARY="$<TARGET_FILE:refute-selftest>")
  add_dependencies(selftest_tests refute-selftest)
endif()
