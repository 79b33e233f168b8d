#ifndef KERNEL_FUSE_API_H
#define KERNEL_FUSE_API_H

/* The one place that says which libfuse interface is used (3.10 is enough). */
#ifdef HAVE_OLD_FUSE /* configure: before 3.12 */
#define FUSE_USE_VERSION 35
#else
#define FUSE_USE_VERSION 312
#endif
#include <fuse_lowlevel.h>

#endif
