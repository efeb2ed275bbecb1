# The files of the wheel besides python/memo. Libraries of torch and highsbox are found where pip installs them beside the wheel;
# torch also at its present place, since pip may install elsewhere (--user, --target).
execute_process(COMMAND ${MEMO_PYTHON} -c "import os, sysconfig as s; print(os.path.relpath(s.get_path('platlib'), s.get_path('scripts')))"
                OUTPUT_VARIABLE from_scripts OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
function(memo_install target folder site_packages)
  set(rpath "$ORIGIN/${site_packages}/torch/lib;$ORIGIN/${site_packages}/highsbox/highs_dist/lib;${torch_folder}/lib")
  if(MEMO_GPU)
    list(APPEND rpath "$ORIGIN/${site_packages}/nvidia/cu13/lib")
  endif()
  set_target_properties(${target} PROPERTIES INSTALL_RPATH "${rpath}")
  install(TARGETS ${target} DESTINATION ${folder})
endfunction()
memo_install(memo_python memo ..)
memo_install(memo ${SKBUILD_SCRIPTS_DIR} ${from_scripts})
memo_install(memo-tensors ${SKBUILD_SCRIPTS_DIR} ${from_scripts})
