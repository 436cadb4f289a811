# sow_tests(DIR): one ctest per DIR/{unit,contract,golden,mpi}/test_*.c.  The file's first lines say what it links
# ("// NEEDS: layer..."), at how many ranks it runs ("// RANKS: 1 2 3 4"), and more labels ("// LABELS: long").

function(sow_test_header file word out)
  file(STRINGS ${file} line LIMIT_COUNT 1 REGEX "^// ${word}: ")
  string(REGEX REPLACE "^// ${word}: " "" line "${line}")
  string(REPLACE " " ";" line "${line}")
  set(${out} ${line} PARENT_SCOPE)
endfunction()

function(sow_tests dir)
  find_library(CMOCKA_LIBRARY cmocka REQUIRED)
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${dir}/*/test_*.c)
  foreach(file ${files})
    get_filename_component(target ${file} NAME_WE)
    get_filename_component(kind ${file} DIRECTORY)
    get_filename_component(kind ${kind} NAME)
    sow_test_header(${file} NEEDS needs)
    sow_test_header(${file} RANKS ranks)
    sow_test_header(${file} LABELS labels)
    if(NOT needs)
      message(FATAL_ERROR "${file}: no '// NEEDS: layer...' line")
    endif()
    list(TRANSFORM needs PREPEND sow_)
    string(REGEX REPLACE "^test_" "${kind}." name ${target})
    add_executable(${target} ${file})
    target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
    target_compile_definitions(${target} PRIVATE SOW_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    target_link_libraries(${target} PRIVATE ${needs} sow_flags ${CMOCKA_LIBRARY} m)
    if(ranks)
      foreach(n ${ranks})
        add_test(NAME ${name}.n${n} COMMAND ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${n} ${SOW_MPIEXEC_FLAGS}
                                            $<TARGET_FILE:${target}>)
        set_tests_properties(${name}.n${n} PROPERTIES PROCESSORS 2 TIMEOUT 120 LABELS "mpi;${labels}")
      endforeach()
    else()
      add_test(NAME ${name} COMMAND ${target})
      set_tests_properties(${name} PROPERTIES TIMEOUT 120 LABELS "${kind};${labels}")
    endif()
  endforeach()
  sow_kill_tests(${dir})
  sow_pmpi_count(${dir})
  sow_cli_tests(${dir}/cli)
endfunction()

# sow_kill_tests(DIR): one ctest per DIR/mpi/kill_*.c, a program in which ranks die, driven by the script beside it:
# kill_NAME.sh MPIEXEC PROGRAM REPETITIONS.
function(sow_kill_tests dir)
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${dir}/mpi/kill_*.c)
  foreach(file ${files})
    get_filename_component(target ${file} NAME_WE)
    sow_test_header(${file} NEEDS needs)
    list(TRANSFORM needs PREPEND sow_)
    add_executable(${target} ${file})
    target_link_libraries(${target} PRIVATE ${needs} sow_flags m)
    add_test(NAME mpi.${target} COMMAND ${CMAKE_SOURCE_DIR}/${dir}/mpi/${target}.sh ${MPIEXEC_EXECUTABLE}
                                        $<TARGET_FILE:${target}> 1)
    set_tests_properties(mpi.${target} PROPERTIES PROCESSORS 2 TIMEOUT 300 LABELS "mpi;kill")
  endforeach()
endfunction()

# sow_pmpi_count(DIR): DIR/mpi/pmpi_count.c as a library for LD_PRELOAD that counts what goes through MPI.  It knows nothing of
# ours.
function(sow_pmpi_count dir)
  if(EXISTS ${CMAKE_SOURCE_DIR}/${dir}/mpi/pmpi_count.c)
    add_library(pmpi_count MODULE ${CMAKE_SOURCE_DIR}/${dir}/mpi/pmpi_count.c)
    target_link_libraries(pmpi_count PRIVATE sow_flags MPI::MPI_C)
  endif()
endfunction()

# sow_cli_tests(DIR): one ctest per DIR/test_*.sh, a script that runs the program; DIR/forge.c makes ledgers that lie.
function(sow_cli_tests dir)
  file(GLOB scripts CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${dir}/test_*.sh)
  add_executable(forge ${CMAKE_SOURCE_DIR}/${dir}/forge.c)
  target_link_libraries(forge PRIVATE sow_base sow_conf sow_train sow_flags)
  foreach(script ${scripts})
    get_filename_component(name ${script} NAME_WE)
    string(REGEX REPLACE "^test_" "cli." name ${name})
    add_test(NAME ${name} COMMAND bash ${script})
    set_tests_properties(
      ${name} PROPERTIES PROCESSORS 2 TIMEOUT 300 LABELS cli ENVIRONMENT
                         "SOWER_BIN=$<TARGET_FILE:sower>;SOWER_FORGE=$<TARGET_FILE:forge>;MPIEXEC=${MPIEXEC_EXECUTABLE}")
  endforeach()
endfunction()
