# Fails when a file compiled for an instruction set defines a symbol that the linker could share
# with other files: an inline function or template compiled for AVX-512 must never be the copy that an
# older processor runs. Run as
#   cmake -DNM=nm -DOBJECTS="a.o;b.o" -P cpu_symbols.cmake
# with the objects of target kernels; those of kernels/cpu/simd_avx*.cc are examined.
set(allowed "refute::cpu::kAvx2Kernels|refute::cpu::kAvx512Kernels|refute::cpu::kAvx512TileKernels")
set(examined 0)
foreach(object IN LISTS OBJECTS)
  if(NOT object MATCHES "simd_avx[0-9]+")
    continue()
  endif()
  math(EXPR examined "${examined} + 1")
  execute_process(COMMAND ${NM} --demangle --defined-only --extern-only ${object}
    OUTPUT_VARIABLE symbols RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "${NM} failed on ${object}")
  endif()
  string(REGEX MATCHALL "[^\n]+" lines "${symbols}")
  set(tables 0)
  foreach(line IN LISTS lines)
    if(line MATCHES "^[0-9a-f]+ [BDR] (${allowed})$")
      math(EXPR tables "${tables} + 1")
    # Beside the tables only data: the sanitizer's, and where the runtime's exception handler is.
    elseif(NOT line MATCHES "__odr_asan| V DW\\.ref\\.__gxx_personality_v0$")
      message(FATAL_ERROR "${object} defines a shared symbol: ${line}")
    endif()
  endforeach()
  if(NOT tables EQUAL 1)
    message(FATAL_ERROR "${object} defines ${tables} kernel tables, expected 1")
  endif()
endforeach()
if(examined EQUAL 0 AND NOT PORTABLE_ONLY)
  message(FATAL_ERROR "no object of kernels/cpu/simd_avx*.cc among: ${OBJECTS}")
endif()
