/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this layer share. */
#ifndef SOWER_BASE_IMPL_H
#define SOWER_BASE_IMPL_H

#include "sower/error.h"

/* SOW_EIO "PATH: ACTION: cause", the cause from errno. */
#define SOW_FAIL_ERRNO(path, action) SOW_FAIL(SOW_EIO, "%s: cannot %s: %s", (path), (action), strerror(errno))

#endif
