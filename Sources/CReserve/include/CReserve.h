// What is linked with this target has its malloc draw on the daemon's reserve. A library must not
// stand in the place of its program's malloc, so only the daemon is.
#ifndef CRESERVE_H
#define CRESERVE_H
#include <stddef.h>

/// `realloc` that draws on the reserve for any size: for libuv, which ends the process where it can't
/// note a descriptor more.
void *_Nullable reserve_reallocate(void *_Nullable block, size_t size);

#endif
