# Third-party libraries: Debian's packages, and wheels from PyPI (torch, highsbox) found through MEMO_PYTHON.

# An unpacked bundle (scripts/bundle) includes these libraries. Its headers are searched last, like /usr/include, since LibTorch's
# headers include an fmt of their own.
set(third_party ${CMAKE_SOURCE_DIR}/third_party)
if(EXISTS ${third_party})
  list(PREPEND CMAKE_PREFIX_PATH ${third_party})
  set(CMAKE_LIBRARY_ARCHITECTURE x86_64-linux-gnu)
  list(APPEND CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES ${third_party}/include)
  list(APPEND CMAKE_CXX_STANDARD_INCLUDE_DIRECTORIES ${third_party}/include)
endif()

find_package(Threads REQUIRED)
find_path(FMT_INCLUDE fmt/format-inl.h REQUIRED)  # headers alone: sources that include LibTorch's find its own fmt first
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
if(MEMO_TESTS AND NOT MEMO_WHEEL)
  find_package(GTest REQUIRED)
endif()

find_path(TOMLPLUSPLUS_INCLUDE toml++/toml.h REQUIRED)
add_library(tomlplusplus::tomlplusplus INTERFACE IMPORTED)
target_include_directories(tomlplusplus::tomlplusplus SYSTEM INTERFACE ${TOMLPLUSPLUS_INCLUDE})

function(memo_find_library target header library)
  find_path(${library}_INCLUDE ${header} REQUIRED)
  find_library(${library}_LIBRARY ${library} REQUIRED)
  add_library(${target} INTERFACE IMPORTED)
  target_include_directories(${target} SYSTEM INTERFACE ${${library}_INCLUDE})
  target_link_libraries(${target} INTERFACE ${${library}_LIBRARY})
endfunction()
memo_find_library(csv csv.h csv)
memo_find_library(liburing liburing.h uring)
memo_find_library(xxhash xxhash.h xxhash)

find_package(OpenSSL REQUIRED COMPONENTS Crypto)

# The report's chart library is what Debian's libjs-chart.js installs.
find_package(ZLIB REQUIRED)
find_file(MEMO_CHART_JS chart.min.js PATH_SUFFIXES share/javascript/chart.js REQUIRED)

# The wheel's CMake config names lib64, its files lie in lib: link by path.
set(highsbox_folder ${third_party}/highsbox)
if(NOT EXISTS ${highsbox_folder})
  execute_process(COMMAND ${MEMO_PYTHON} -c "import highsbox; print(*highsbox.__path__)"
                  OUTPUT_VARIABLE highsbox_folder OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
endif()
add_library(highs SHARED IMPORTED)
set_target_properties(highs PROPERTIES IMPORTED_LOCATION ${highsbox_folder}/highs_dist/lib/libhighs.so)
target_include_directories(highs SYSTEM INTERFACE ${highsbox_folder}/highs_dist/include/highs)

if(MEMO_TORCH)
  execute_process(COMMAND ${MEMO_PYTHON} ${CMAKE_SOURCE_DIR}/cmake/torch_here.py
                  OUTPUT_VARIABLE torch_folder OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  add_library(torch_cpp INTERFACE)
  target_include_directories(torch_cpp SYSTEM INTERFACE ${torch_folder}/include ${torch_folder}/include/torch/csrc/api/include)
  target_link_directories(torch_cpp INTERFACE ${torch_folder}/lib)
  target_link_libraries(torch_cpp INTERFACE torch torch_cpu c10)
  target_link_options(torch_cpp INTERFACE -Wl,--no-as-needed)
  if(NOT MEMO_WHEEL)
    target_link_options(torch_cpp INTERFACE -Wl,-rpath,${torch_folder}/lib)
  endif()
  # at::parallel_for is a header template: without OpenMP our loops would run on one thread. The runtime is the one that
  # LibTorch brings, so that both share their threads.
  file(GLOB torch_openmp ${torch_folder}/lib/libgomp*.so*)
  target_compile_options(torch_cpp INTERFACE -fopenmp)
  target_link_libraries(torch_cpp INTERFACE ${torch_openmp})
  target_compile_definitions(torch_cpp INTERFACE _GLIBCXX_USE_CXX11_ABI=1)
endif()
