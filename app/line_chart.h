// Line charts as an SVG document.
#pragma once

#include <string>
#include <vector>

namespace mxmla::app {

struct ChartLine {
  std::string name;
  std::vector<double> values;  // of each x
};

struct Chart {
  std::string title;  // with the unit
  std::vector<ChartLine> lines;
};

// The charts side by side over the same x, whose places are equally far apart. Every y axis begins at 0.
std::string DrawCharts(const std::string& x_title, const std::vector<std::string>& x, const std::vector<Chart>& charts);

}  // namespace mxmla::app
