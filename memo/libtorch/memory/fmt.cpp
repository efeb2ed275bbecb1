// Compiles the version of fmt that comes with LibTorch, once.
#include "memo/base/fmt_bodies.h"
