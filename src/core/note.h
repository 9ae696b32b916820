// Notes: lines for the user about what was done another way than asked for, where that is no failure.
#pragma once

#include <string>

namespace mxmla {

using NoteSink = void (*)(const std::string& line);

// Where notes go; the program prints them. Without a sink, as in a library, they are dropped.
void SetNoteSink(NoteSink sink);
void ReportNote(const std::string& line);

}  // namespace mxmla
