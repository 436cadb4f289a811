/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.c: the name of this CPU for logs. */
#include "la_impl.h"

#include "sower/la.h"

#include <stdio.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum { BRAND_BYTES = 48 };

static void read_brand(char brand[BRAND_BYTES + 1])
{
#if defined(__x86_64__)
    unsigned word[3][4] = {0};
    for (unsigned i = 0; i < 3; i++)
        (void)__get_cpuid(0x80000002 + i, &word[i][0], &word[i][1], &word[i][2], &word[i][3]);
    memcpy(brand, word, BRAND_BYTES);
    for (size_t end = strlen(brand); end > 0 && brand[end - 1] == ' '; end--)
        brand[end - 1] = '\0';
#elif defined(__aarch64__)
    (void)snprintf(brand, BRAND_BYTES, "aarch64");
#endif
    if (brand[0] == '\0')
        (void)snprintf(brand, BRAND_BYTES, "unknown CPU");
}

const char *sow_la_cpu_name(void)
{
    static char name[BRAND_BYTES + 32];
    if (name[0] == '\0') {
        char brand[BRAND_BYTES + 1] = "";
        read_brand(brand);
        (void)snprintf(name, sizeof name, "%s, %s", brand + strspn(brand, " "), sow_kernels_at(0)->name);
    }
    return name;
}
