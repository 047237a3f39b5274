# Run at build time (cmake -P) whenever a file of the hashed tree changed: hashes the tree and writes
# build_info.cc. In: SOURCE_DIR, FILE_LIST (a file of paths relative to it, one a line), TEMPLATE,
# OUTPUT, and the values that the template names.
file(STRINGS ${FILE_LIST} files)
list(SORT files COMPARE STRING CASE SENSITIVE)
set(lines "")
foreach(file IN LISTS files)
  file(SHA256 ${SOURCE_DIR}/${file} digest)
  string(APPEND lines "${digest}  ${file}\n")
endforeach()
string(SHA256 TREE_SHA256 "${lines}")
configure_file(${TEMPLATE} ${OUTPUT} @ONLY)
