# Writes the report's files into a C++ source, as bytes: cmake -DOUT=.. -DHTML=.. -DSTYLE=.. -DSCRIPT="a;b" ... -P embed.cmake
set(text "// Made by cmake/embed.cmake.\n#include \"memo/report/assets.h\"\n\nnamespace memo::report::assets {\n")
foreach(asset HTML STYLE SCRIPT CHART_LIBRARY)
  set(bytes "")
  foreach(file ${${asset}})
    file(READ ${file} hex HEX)
    string(APPEND bytes "${hex}0a")
  endforeach()
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(TOLOWER ${asset} name)
  string(APPEND text "static const unsigned char ${name}_bytes[] = {${bytes}};\n"
         "extern const std::string_view ${name}(reinterpret_cast<const char*>(${name}_bytes), sizeof ${name}_bytes);\n")
endforeach()
file(WRITE ${OUT} "${text}}  // namespace memo::report::assets\n")
