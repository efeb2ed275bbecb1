# Third-party libraries: Debian's packages, and wheels from PyPI (torch, highsbox, CUDA's headers and runtime) found
# through MEMO_PYTHON.

# An unpacked bundle (scripts/bundle) brings them along. Its headers are searched last, as /usr/include is: LibTorch's come with
# an fmt of their own.
set(third_party ${CMAKE_SOURCE_DIR}/third_party)
if(EXISTS ${third_party})
  list(PREPEND CMAKE_PREFIX_PATH ${third_party})
  set(CMAKE_LIBRARY_ARCHITECTURE x86_64-linux-gnu)
  list(APPEND CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES ${third_party}/include)
  list(APPEND CMAKE_CXX_STANDARD_INCLUDE_DIRECTORIES ${third_party}/include)
endif()

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(GTest REQUIRED)

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
memo_find_library(PCRE2::8 pcre2.h pcre2-8)
memo_find_library(xxhash xxhash.h xxhash)

find_package(OpenSSL REQUIRED COMPONENTS Crypto)

# The report's chart library is what Debian's libjs-chart.js installs.
find_package(ZLIB REQUIRED)
find_file(MEMO_CHART_JS chart.min.js PATH_SUFFIXES share/javascript/chart.js REQUIRED)

function(memo_python_folder module out)
  execute_process(COMMAND ${MEMO_PYTHON} -c "import importlib.util as u; print(u.find_spec('${module}').submodule_search_locations[0])"
                  OUTPUT_VARIABLE folder OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  set(${out} ${folder} PARENT_SCOPE)
endfunction()

# The wheel's CMake config names lib64, its files lie in lib: link by path.
set(highsbox_folder ${third_party}/highsbox)
if(NOT EXISTS ${highsbox_folder})
  memo_python_folder(highsbox highsbox_folder)
endif()
add_library(highs SHARED IMPORTED)
set_target_properties(highs PROPERTIES IMPORTED_LOCATION ${highsbox_folder}/highs_dist/lib/libhighs.so)
target_include_directories(highs SYSTEM INTERFACE ${highsbox_folder}/highs_dist/include/highs)

# CUDA's runtime API: a toolkit, or the wheels nvidia-cuda-runtime, -crt and -cccl.
execute_process(COMMAND ${MEMO_PYTHON} -c "import sysconfig; print(sysconfig.get_path('purelib'))"
                OUTPUT_VARIABLE site_packages OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
set(cuda_folders ${site_packages}/nvidia/cu13 ENV CUDA_HOME /usr/local/cuda)
find_path(CUDA_HEADERS crt/host_defines.h PATHS ${cuda_folders} PATH_SUFFIXES include NO_DEFAULT_PATH REQUIRED)
add_library(cuda_headers INTERFACE)
target_include_directories(cuda_headers SYSTEM INTERFACE ${CUDA_HEADERS} ${CUDA_HEADERS}/cccl)
# nvcc compiles memo/kernels where there is one. With a LibTorch of CUDA too, the command trains on a GPU.
include(CheckLanguage)
check_language(CUDA)
if(CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_ARCHITECTURES 80 86 89 90 100 CACHE STRING "GPUs to compile kernels for")
  set(CMAKE_CUDA_STANDARD 17)
  enable_language(CUDA)
endif()
# What links with NVIDIA's runtime asks for it: the target cuda_runtime.
function(memo_cuda_runtime)
  if(TARGET cuda_runtime)
    return()
  endif()
  find_library(CUDA_RUNTIME NAMES cudart libcudart.so.13 PATHS ${cuda_folders} PATH_SUFFIXES lib lib64 NO_DEFAULT_PATH REQUIRED)
  add_library(cuda_runtime SHARED IMPORTED)
  set_target_properties(cuda_runtime PROPERTIES IMPORTED_LOCATION ${CUDA_RUNTIME})
endfunction()
if(MEMO_CUDA)
  memo_cuda_runtime()
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
