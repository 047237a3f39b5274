# The CUDA backend. The tile layout is host code and in every build; the rest needs the toolkit.
target_sources(kernels PRIVATE cuda/tiles.cc)

if(REFUTE_HAVE_CUDA)
  set(cuda_sources
    cuda/attention.cu
    cuda/attention_prefill.cu
    cuda/attention_tensor.cu
    cuda/bandwidth.cu
    cuda/decode.cu
    cuda/decode_attention.cu
    cuda/decode_persistent.cu
    cuda/elementwise.cu
    cuda/matmul.cu
    cuda/prefill_matmul.cu
    cuda/prefill_rows.cu
    cuda/route.cu
  )
  # Objects of CUDA sources.
  function(refute_cuda_objects target)
    # Exact arithmetic: nothing contracted, nothing flushed, division and square root rounded.
    set(cuda_options
      $<$<COMPILE_LANGUAGE:CUDA>:-fmad=false --prec-div=true --prec-sqrt=true --ftz=false
      --expt-relaxed-constexpr --extended-lambda -Werror=all-warnings -Xcompiler=-Wall,-Wextra>)
    add_library(${target} OBJECT ${ARGN})
    target_compile_options(${target} PRIVATE "${cuda_options}")
    target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
    set_target_properties(${target} PROPERTIES
      CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON
      CUDA_ARCHITECTURES "${REFUTE_CUDA_ARCHITECTURES}" POSITION_INDEPENDENT_CODE ON)
  endfunction()
  refute_cuda_objects(kernels_cuda ${cuda_sources})
  # Instructions of compute capability 9.0 alone need code for 9.0a. CMake 3.25 does not know it.
  refute_cuda_objects(kernels_hopper cuda/attention_hopper.cu)
  if("${REFUTE_CUDA_ARCHITECTURES}" MATCHES "(^|;)90")
    set_target_properties(kernels_hopper PROPERTIES CUDA_ARCHITECTURES OFF)
    target_compile_options(kernels_hopper PRIVATE
      $<$<COMPILE_LANGUAGE:CUDA>:--generate-code=arch=compute_90a,code=sm_90a>)
  endif()
  target_sources(kernels PRIVATE cuda/device.cc
    $<TARGET_OBJECTS:kernels_cuda> $<TARGET_OBJECTS:kernels_hopper>)
  # Only those who see the toolkit's headers name CUDA::cudart_static themselves.
  target_link_libraries(kernels PRIVATE CUDA::cudart_static)
endif()
