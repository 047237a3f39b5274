# Micro-benchmarks, outside the default build: `ninja -C build kernels_bench`.
find_package(benchmark QUIET)
if(benchmark_FOUND)
  add_executable(kernels_bench EXCLUDE_FROM_ALL bench/kernels_bench.cc)
  target_link_libraries(kernels_bench PRIVATE project_options kernels benchmark::benchmark)
endif()
