# Third-party libraries: Debian's packages, and wheels from PyPI (torch, highsbox, CUDA's headers and runtime) found
# through MEMO_PYTHON.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(GTest REQUIRED)
find_package(PkgConfig REQUIRED)

find_path(TOMLPLUSPLUS_INCLUDE toml++/toml.h REQUIRED)
add_library(tomlplusplus::tomlplusplus INTERFACE IMPORTED)
target_include_directories(tomlplusplus::tomlplusplus SYSTEM INTERFACE ${TOMLPLUSPLUS_INCLUDE})

find_library(CSV_LIBRARY csv REQUIRED)
add_library(csv INTERFACE)
target_link_libraries(csv INTERFACE ${CSV_LIBRARY})

pkg_check_modules(uring REQUIRED IMPORTED_TARGET liburing)
add_library(liburing ALIAS PkgConfig::uring)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
add_library(PCRE2::8 ALIAS PkgConfig::pcre2)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
add_library(xxhash ALIAS PkgConfig::xxhash)

find_package(OpenSSL REQUIRED COMPONENTS Crypto)

# The report's chart library is what Debian's libjs-chart.js installs.
find_package(ZLIB REQUIRED)
find_file(MEMO_CHART_JS chart.min.js PATHS /usr/share/javascript/chart.js REQUIRED)

function(memo_python_folder module out)
  execute_process(COMMAND ${MEMO_PYTHON} -c "import importlib.util as u; print(u.find_spec('${module}').submodule_search_locations[0])"
                  OUTPUT_VARIABLE folder OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  set(${out} ${folder} PARENT_SCOPE)
endfunction()

# The wheel's CMake config names lib64, its files lie in lib: link by path.
memo_python_folder(highsbox highsbox_folder)
add_library(highs SHARED IMPORTED)
set_target_properties(highs PROPERTIES IMPORTED_LOCATION ${highsbox_folder}/highs_dist/lib/libhighs.so)
target_include_directories(highs SYSTEM INTERFACE ${highsbox_folder}/highs_dist/include/highs)

# CUDA's runtime API: a toolkit, or the wheels nvidia-cuda-runtime and nvidia-cuda-crt.
execute_process(COMMAND ${MEMO_PYTHON} -c "import sysconfig; print(sysconfig.get_path('purelib'))"
                OUTPUT_VARIABLE site_packages OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
set(cuda_folders ${site_packages}/nvidia/cu13 ENV CUDA_HOME /usr/local/cuda)
find_path(CUDA_HEADERS crt/host_defines.h PATHS ${cuda_folders} PATH_SUFFIXES include NO_DEFAULT_PATH REQUIRED)
add_library(cuda_headers INTERFACE)
target_include_directories(cuda_headers SYSTEM INTERFACE ${CUDA_HEADERS})
# nvcc compiles memo/kernels where there is one. With a LibTorch of CUDA too, the command trains on a GPU.
include(CheckLanguage)
check_language(CUDA)
if(CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_ARCHITECTURES 80 86 89 90 100 CACHE STRING "GPUs to compile kernels for")
  set(CMAKE_CUDA_STANDARD 17)
  enable_language(CUDA)
endif()
if(MEMO_CUDA)
  find_library(CUDA_RUNTIME NAMES cudart libcudart.so.13 PATHS ${cuda_folders} PATH_SUFFIXES lib lib64 NO_DEFAULT_PATH REQUIRED)
  add_library(cuda_runtime SHARED IMPORTED)
  set_target_properties(cuda_runtime PROPERTIES IMPORTED_LOCATION ${CUDA_RUNTIME})
endif()

if(MEMO_TORCH)
  memo_python_folder(torch torch_folder)
  add_library(torch_cpp INTERFACE)
  target_include_directories(torch_cpp SYSTEM INTERFACE ${torch_folder}/include ${torch_folder}/include/torch/csrc/api/include)
  target_link_directories(torch_cpp INTERFACE ${torch_folder}/lib)
  target_link_libraries(torch_cpp INTERFACE torch torch_cpu c10)
  target_link_options(torch_cpp INTERFACE -Wl,-rpath,${torch_folder}/lib -Wl,--no-as-needed)
  # at::parallel_for is a header template: without OpenMP our loops would run on one thread. The runtime is the one that
  # LibTorch brings, so that both share their threads.
  file(GLOB torch_openmp ${torch_folder}/lib/libgomp*.so*)
  target_compile_options(torch_cpp INTERFACE -fopenmp)
  target_link_libraries(torch_cpp INTERFACE ${torch_openmp})
  target_compile_definitions(torch_cpp INTERFACE _GLIBCXX_USE_CXX11_ABI=1)
endif()
