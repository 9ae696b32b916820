# Writes OUTPUT, a C++ source that holds the files of the folder PAGE as serve/page.h gives them.
#   cmake -DPAGE=web -DOUTPUT=page_files.cpp -P embed_page.cmake
set(types_html "text/html; charset=utf-8")
set(types_css "text/css; charset=utf-8")
set(types_js "text/javascript; charset=utf-8")
set(types_svg "image/svg+xml")

file(GLOB files RELATIVE "${PAGE}" "${PAGE}/*")
list(SORT files)
set(entries "")
foreach(name IN LISTS files)
  string(REGEX REPLACE ".*\\." "" suffix "${name}")
  if(NOT DEFINED types_${suffix})
    message(FATAL_ERROR "${PAGE}/${name}: expected html, css, js or svg")
  endif()
  file(READ "${PAGE}/${name}" hex HEX)
  file(SHA256 "${PAGE}/${name}" digest)
  string(SUBSTRING "${digest}" 0 32 digest)
  string(REGEX REPLACE "(..)" "\\\\x\\1" bytes "${hex}")
  set(path "/page/${name}")
  if(name STREQUAL "index.html")
    set(path "/")
  endif()
  string(LENGTH "${hex}" digits)
  math(EXPR size "${digits} / 2")
  string(APPEND entries "    {\"${path}\", \"${types_${suffix}}\", \"\\\"${digest}\\\"\", {\"${bytes}\", ${size}}},\n")
endforeach()

file(WRITE "${OUTPUT}" "#include \"serve/page.h\"

namespace mxmla::serve {
namespace {

constexpr PageFile kFiles[] = {
${entries}};

}  // namespace

std::span<const PageFile> PageFiles() { return kFiles; }

}  // namespace mxmla::serve
")
