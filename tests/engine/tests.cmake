refute_test(engine
  engine/arguments_test.cc
  engine/byte_pair_merges_test.cc
  engine/forward_test.cc
  engine/generate_test.cc
  engine/gguf_bad_files_test.cc
  engine/gguf_test.cc
  engine/model_test.cc
  engine/pretokenizer_test.cc
  engine/sampler_test.cc
  engine/session_test.cc
  engine/synth_test.cc
  engine/tokenizer_test.cc
  engine/trace_file_test.cc
  engine/trace_test.cc
  engine/utf8_test.cc
)
target_link_libraries(engine_tests PRIVATE engine)
