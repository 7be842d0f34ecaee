"""Stands in for rules_cc: re-exports Bazel's native C++ rules.

Debian's rules_cc does not load in Bazel 4.2.3, and the tree needs no more.
"""

cc_binary = native.cc_binary
cc_import = native.cc_import
cc_library = native.cc_library
cc_test = native.cc_test
cc_toolchain = native.cc_toolchain
cc_toolchain_suite = native.cc_toolchain_suite
objc_library = native.objc_library

def cc_flags_supplier(**_kwargs):
    pass

def compiler_flag(**_kwargs):
    pass
