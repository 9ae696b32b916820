# mxmla_page_files(TARGET): adds the page's files as a source of a target of the calling folder. A file that comes or goes
# makes CMake look again.
function(mxmla_page_files target)
  set(page ${PROJECT_SOURCE_DIR}/web)
  set(script ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/embed_page.cmake)
  set(output ${CMAKE_CURRENT_BINARY_DIR}/page_files.cpp)
  file(GLOB files CONFIGURE_DEPENDS ${page}/*)
  add_custom_command(OUTPUT ${output} COMMAND ${CMAKE_COMMAND} -DPAGE=${page} -DOUTPUT=${output} -P ${script}
                     DEPENDS ${files} ${script} VERBATIM)
  target_sources(${target} PRIVATE ${output})
endfunction()
