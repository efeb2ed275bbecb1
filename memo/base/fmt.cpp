// Compiles the library fmt once.
#include "memo/base/fmt_bodies.h"
