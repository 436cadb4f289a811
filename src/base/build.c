/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/build.h"

#ifndef SOW_VERSION
#define SOW_VERSION "unknown"
#endif
#ifndef SOW_COMMIT
#define SOW_COMMIT "unknown"
#endif
#ifndef SOW_BUILD_TYPE
#define SOW_BUILD_TYPE "unknown"
#endif

const char *sow_build_version(void)
{
    return SOW_VERSION;
}

const char *sow_build_commit(void)
{
    return SOW_COMMIT;
}

const char *sow_build_compiler(void)
{
#if defined(__clang__)
    return "clang " __clang_version__;
#else
    return "gcc " __VERSION__;
#endif
}

const char *sow_build_type(void)
{
    return SOW_BUILD_TYPE;
}
