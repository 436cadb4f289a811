/* SPDX-License-Identifier: Apache-2.0 */
/* kernels.c: which tables of kernels this CPU can run, and their names. */
#include "sower/kernels.h"

#include "la_impl.h"

#include <stdio.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const char *const type_names[SOW_N_TYPES] = {[SOW_FP16] = "fp16", [SOW_BF16] = "bf16", [SOW_F32] = "f32"};

const char *sow_type_name(sow_type type)
{
    return type_names[type];
}

size_t sow_type_bytes(sow_type type)
{
    return type == SOW_F32 ? sizeof(float) : sizeof(uint16_t);
}

#if defined(SOW_HAS_AVX2)
/* What -march=x86-64-v3 lets a compiler use, as far as CPUs differ. */
static bool has_avx2(void)
{
    unsigned a, b, c = 0, d;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2") && __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

#if defined(SOW_HAS_AVX512)
/* The same for -march=x86-64-v4. */
static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
#endif

static bool always(void)
{
    return true;
}

/* Best first. */
static const struct variant {
    const sow_kernels *kernels;
    bool (*can_run)(void);
} variants[] = {
#if defined(SOW_HAS_AVX512)
    {&sow_kernels_avx512, has_avx512},
#endif
#if defined(SOW_HAS_AVX2)
    {&sow_kernels_avx2, has_avx2},
#endif
#if defined(SOW_HAS_NEON)
    {&sow_kernels_neon, always},
#endif
    {&sow_kernels_plain, always},
};

const sow_kernels *sow_kernels_at(int64_t index)
{
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        if (variants[i].can_run() && index-- == 0)
            return variants[i].kernels;
    return NULL;
}

int64_t sow_kernels_count(void)
{
    int64_t n = 0;
    while (sow_kernels_at(n) != NULL)
        n++;
    return n;
}

sow_code sow_kernels_find(const char *name, const sow_kernels **out)
{
    char names[128] = "auto";
    const sow_kernels *kernels;
    for (int64_t i = 0; (kernels = sow_kernels_at(i)) != NULL; i++) {
        if (strcmp(name, kernels->name) == 0 || strcmp(name, "auto") == 0) {
            *out = kernels;
            return SOW_OK;
        }
        const size_t used = strlen(names);
        (void)snprintf(names + used, sizeof names - used, ", %s", kernels->name);
    }
    return SOW_FAIL(SOW_ECONF, "la.kernel: '%s' is not possible on this CPU with this build, expected one of %s", name,
                    names);
}
