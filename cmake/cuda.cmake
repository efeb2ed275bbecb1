# CUDA's runtime API: a toolkit, or the wheels nvidia-cuda-runtime, -crt and -cccl.
execute_process(COMMAND ${MEMO_PYTHON} -c "import sysconfig; print(sysconfig.get_path('purelib'))"
                OUTPUT_VARIABLE site_packages OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
set(cuda_folders ${site_packages}/nvidia/cu13 ENV CUDA_HOME /usr/local/cuda)
find_path(CUDA_HEADERS crt/host_defines.h PATHS ${cuda_folders} PATH_SUFFIXES include NO_DEFAULT_PATH REQUIRED)
add_library(cuda_headers INTERFACE)
target_include_directories(cuda_headers SYSTEM INTERFACE ${CUDA_HEADERS} ${CUDA_HEADERS}/cccl)
# nvcc, if present, compiles memo/kernels. If LibTorch also has CUDA, the command trains on a GPU.
include(CheckLanguage)
check_language(CUDA)
if(CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_ARCHITECTURES 80 86 89 90 100 CACHE STRING "GPUs to compile kernels for")
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_RUNTIME_LIBRARY None)  # a program chooses its runtime (memo_cuda_runtime); the compiler's would be another
  enable_language(CUDA)
endif()
# Targets that link with NVIDIA's runtime use the target cuda_runtime.
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
