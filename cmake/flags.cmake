# Flags that every target of ours is built with.
#
# Bits: no contraction that was not written, never -ffast-math.  Speed: sqrtf vectorises only if it need not set errno.
add_library(sow_flags INTERFACE)
target_compile_features(sow_flags INTERFACE c_std_17)
target_compile_definitions(sow_flags INTERFACE _POSIX_C_SOURCE=200809L _DEFAULT_SOURCE)
target_compile_options(
  sow_flags
  INTERFACE -ffp-contract=off
            -fno-math-errno
            -ffile-prefix-map=${CMAKE_SOURCE_DIR}/=
            -Wall
            -Wextra
            -Wpedantic
            -Wshadow
            -Wconversion
            -Wdouble-promotion
            -Wstrict-prototypes
            -Wmissing-prototypes
            -Wvla
            -Wwrite-strings
            -Wformat=2
            -Wundef
            -Wimplicit-fallthrough
            $<$<BOOL:${SOW_WERROR}>:-Werror>)
if(SOW_SANITIZE)
  target_compile_options(sow_flags INTERFACE -fsanitize=${SOW_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(sow_flags INTERFACE -fsanitize=${SOW_SANITIZE})
endif()
