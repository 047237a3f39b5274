# The CPU backend. Its simd_*.cc are the only files compiled for an instruction set; which of them
# runs is decided at run time (context.cc).
target_sources(kernels PRIVATE
  cpu/attention.cc
  cpu/combine.cc
  cpu/context.cc
  cpu/matmul.cc
  cpu/products.cc
  cpu/read_bandwidth.cc
  cpu/rms_norm.cc
  cpu/rope.cc
  cpu/simd_portable.cc
  cpu/swiglu.cc
  cpu/thread_pool.cc
  cpu/tiles.cc
)
set(cpu_simd_options $<$<NOT:$<CONFIG:Debug>>:-O3>)
set_source_files_properties(cpu/simd_portable.cc PROPERTIES COMPILE_OPTIONS "${cpu_simd_options}")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  target_sources(kernels PRIVATE cpu/simd_avx2.cc cpu/simd_avx512.cc
    cpu/simd_avx512_tiles.cc)
  set_source_files_properties(cpu/simd_avx2.cc PROPERTIES
    COMPILE_OPTIONS "${cpu_simd_options};-mavx2;-mfma;-mf16c")
  # GCC 12 warns of its own AVX-512 intrinsics, which pass undefined values on purpose (PR 105593).
  set(avx512_options -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c
    -Wno-uninitialized -Wno-maybe-uninitialized)
  set_source_files_properties(cpu/simd_avx512.cc cpu/simd_avx512_tiles.cc PROPERTIES
    COMPILE_OPTIONS "${cpu_simd_options};${avx512_options}")
  set_source_files_properties(cpu/context.cc PROPERTIES COMPILE_DEFINITIONS REFUTE_CPU_X86)
endif()
