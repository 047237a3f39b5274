refute_test(validators
  validators/bench_fit_test.cc
  validators/bench_measure_test.cc
  validators/cli_bench_test.cc
  validators/cli_evidence_test.cc
  validators/cli_test.cc
  validators/cli_trace_test.cc
  validators/contract_test.cc
  validators/corpus_test.cc
  validators/diagnostic_test.cc
  validators/heat_map_test.cc
  validators/kill_matrix_test.cc
  validators/own_contracts_test.cc
  validators/record_test.cc
  validators/report_bench_test.cc
  validators/robustness_test.cc
  validators/rules_kill_matrix_test.cc
  validators/rules_test.cc
  validators/run_test.cc
  validators/schema_test.cc
  validators/status_test.cc
  validators/trace_selection_test.cc
  validators/validate_test.cc
  validators/witness_test.cc
  validators/yaml_tree_test.cc
)
# The command-line tests run the binary itself.
target_link_libraries(validators_tests PRIVATE validators yaml-cpp)
target_compile_definitions(validators_tests PRIVATE REFUTE_BINARY="$<TARGET_FILE:refute>")
add_dependencies(validators_tests refute)

# All files of the public corpus, where a copy is at hand; the handful in tests/data is always run.
set(REFUTE_CORPUS_DIR "" CACHE PATH "Folder of the public contracts corpus; empty: not tested")
if(REFUTE_CORPUS_DIR)
  add_executable(whole_corpus_tests validators/whole_corpus_test.cc)
  target_link_libraries(whole_corpus_tests PRIVATE
    project_options validators GTest::gtest GTest::gtest_main)
  target_compile_definitions(whole_corpus_tests PRIVATE
    REFUTE_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data"
    REFUTE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_test(NAME validators.whole_corpus COMMAND whole_corpus_tests)
  set_tests_properties(validators.whole_corpus PROPERTIES
    ENVIRONMENT "REFUTE_CORPUS_DIR=${REFUTE_CORPUS_DIR}")
else()
  message(STATUS "REFUTE_CORPUS_DIR is not set: the whole public corpus is not tested")
endif()
