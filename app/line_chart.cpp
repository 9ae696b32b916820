#include "line_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace mxmla::app {
namespace {

constexpr double kWidth = 320, kHeight = 240;  // of one chart
constexpr double kLeft = 56, kRight = 20, kTop = 44, kBottom = 44;
constexpr std::array kColors = {"#1f6fb4", "#d9730d", "#2c8a4b", "#a33ea1"};

std::string Escape(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '<') {
      escaped += "&lt;";
    } else if (c == '&') {
      escaped += "&amp;";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

// A round number at or above `largest`.
double Ceiling(double largest) {
  if (!(largest > 0)) return 1;
  const double power = std::pow(10, std::floor(std::log10(largest)));
  for (const double step : {1.0, 2.0, 2.5, 5.0}) {
    if (largest <= step * power) return step * power;
  }
  return 10 * power;
}

std::string Text(double x, double y, const std::string& anchor, const std::string& text, const char* extra = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y, anchor, extra,
                     Escape(text));
}

std::string DrawOne(double left, const std::string& x_title, const std::vector<std::string>& x, const Chart& chart) {
  double largest = 0;
  for (const ChartLine& line : chart.lines) {
    for (const double value : line.values) largest = std::max(largest, value);
  }
  const double top = Ceiling(largest);
  const double x0 = left + kLeft, x1 = left + kWidth - kRight, y0 = kHeight - kBottom, y1 = kTop;
  const auto place = [&](size_t i) {
    return x.size() < 2 ? (x0 + x1) / 2 : x0 + (x1 - x0) * static_cast<double>(i) / static_cast<double>(x.size() - 1);
  };
  const auto height = [&](double value) { return y0 - (y0 - y1) * value / top; };
  std::string svg = Text(left + kWidth / 2, 16, "middle", chart.title, " font-weight=\"bold\"");
  for (const double part : {0.0, 0.5, 1.0}) {
    svg += fmt::format("<line x1=\"{0:.1f}\" y1=\"{2:.1f}\" x2=\"{1:.1f}\" y2=\"{2:.1f}\" stroke=\"#ccc\"/>\n", x0, x1,
                       height(part * top));
    svg += Text(x0 - 5, height(part * top) + 4, "end", fmt::format("{:g}", part * top));
  }
  const size_t every = (x.size() + 7) / 8;
  for (size_t i = 0; i < x.size(); i += every) svg += Text(place(i), y0 + 16, "middle", x[i]);
  svg += Text((x0 + x1) / 2, y0 + 34, "middle", x_title);
  double legend = x0;
  for (size_t l = 0; l < chart.lines.size(); ++l) {
    const ChartLine& line = chart.lines[l];
    const char* const color = kColors[l % kColors.size()];
    std::string points;
    for (size_t i = 0; i < line.values.size(); ++i) {
      points += fmt::format("{:.1f},{:.1f} ", place(i), height(line.values[i]));
      svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2.5\" fill=\"{}\"/>\n", place(i),
                         height(line.values[i]), color);
    }
    svg += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>\n", points, color);
    if (chart.lines.size() > 1) {
      svg += fmt::format("<text x=\"{:.1f}\" y=\"32\" fill=\"{}\">{}</text>\n", legend, color, Escape(line.name));
      legend += 12 + 7 * static_cast<double>(line.name.size());
    }
  }
  return svg;
}

}  // namespace

std::string DrawCharts(const std::string& x_title, const std::vector<std::string>& x,
                       const std::vector<Chart>& charts) {
  const double width = kWidth * static_cast<double>(charts.size());
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} {1:.0f}\" "
      "font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
      width, kHeight);
  for (size_t i = 0; i < charts.size(); ++i) svg += DrawOne(kWidth * static_cast<double>(i), x_title, x, charts[i]);
  return svg + "</svg>\n";
}

}  // namespace mxmla::app
