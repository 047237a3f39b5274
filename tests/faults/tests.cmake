# The build with fault sites: every fault has its effect, and the release has none of them.
if(REFUTE_FAULTS)
  refute_test(fault
    faults/equivalents_test.cc
    faults/faults_test.cc
    faults/model_probes.cc
    faults/op_probes.cc
    faults/sites_test.cc
  )
  target_link_libraries(fault_tests PRIVATE falsifiers_faults)

  find_program(REFUTE_STRINGS strings REQUIRED)
  set(release_objects "$<TARGET_OBJECTS:kernels>;$<TARGET_OBJECTS:engine>")
  set(fault_objects "$<TARGET_OBJECTS:kernels_faults>;$<TARGET_OBJECTS:engine_faults>")
  add_test(NAME fault.release_objects
    COMMAND ${CMAKE_COMMAND} -DNM=${CMAKE_NM} -DSTRINGS=${REFUTE_STRINGS}
      "-DOBJECTS=${release_objects}" "-DFAULT_OBJECTS=${fault_objects}"
      -P ${CMAKE_CURRENT_LIST_DIR}/release_objects.cmake)
endif()
