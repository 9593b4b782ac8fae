// Symbols that the headers of a newer compiler refer to, and that systems with glibc 2.28 lack.
#include <sstream>

// The default constructor of std::ostringstream is in libstdc++ since GCC 9.
template class std::basic_ostringstream<char>;

// Whether the process has a single thread, since glibc 2.32. Zero means that it may have several.
extern "C" char __libc_single_threaded;
char __libc_single_threaded = 0;
