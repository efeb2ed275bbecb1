# LibTorch on a GPU. MEMO_GPU: the command and the Python package have it, which takes nvcc and a LibTorch built with CUDA.
# Without the latter its sources are compiled all the same, so that they stay right, and linked into nothing.
set(MEMO_GPU OFF)
if(CMAKE_CUDA_COMPILER)
  add_library(memo_kernels STATIC memo/kernels/launch.cu)
  target_include_directories(memo_kernels PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(memo_kernels PUBLIC cuda_headers)
  if(NOT MEMO_WHEEL)
    target_compile_options(memo_kernels PRIVATE "SHELL:-Werror all-warnings" "SHELL:-Xcompiler -Wall,-Wextra,-Werror")
  endif()
  if(EXISTS ${torch_folder}/lib/libtorch_cuda.so)
    set(MEMO_GPU ON)
  endif()
endif()

set(MEMO_GPU ${MEMO_GPU} CACHE INTERNAL "")

# A LibTorch without CUDA lacks this header, which its others include.
if(NOT EXISTS ${torch_folder}/include/c10/cuda/impl/cuda_cmake_macros.h)
  set(torch_cuda_headers ${CMAKE_BINARY_DIR}/torch_cuda)
  file(WRITE ${torch_cuda_headers}/c10/cuda/impl/cuda_cmake_macros.h "#pragma once\n#define C10_CUDA_BUILD_SHARED_LIBS\n")
endif()

set(gpu_sources memo/torch/attention_gpu.cpp memo/torch/kernels_gpu.cpp)
set(gpu_device_sources memo/gpu/allocator.cpp memo/gpu/cuda_device.cpp)
if(MEMO_GPU)
  memo_cuda_runtime()
  target_sources(memo_torch PRIVATE ${gpu_sources})
  target_compile_definitions(memo_torch PUBLIC MEMO_CUDA)
  target_link_libraries(memo_torch PUBLIC memo_kernels cuda_headers torch_cuda c10_cuda cuda_runtime)
  target_sources(memo_gpu PRIVATE ${gpu_device_sources})
else()
  add_library(memo_gpu_compiled OBJECT ${gpu_sources} ${gpu_device_sources} memo/torch/kernels_mlp.cpp memo/cli/cuda/device.cpp
              memo/python/cuda/device.cpp)
  target_compile_definitions(memo_gpu_compiled PRIVATE MEMO_CUDA)
  target_include_directories(memo_gpu_compiled SYSTEM PRIVATE ${torch_cuda_headers})
  target_link_libraries(memo_gpu_compiled PRIVATE memo_gpu CLI11::CLI11)
  target_compile_options(memo_gpu_compiled PRIVATE ${precompiled_strings})
endif()
