import xml.etree.ElementTree as ET

import pytest

from gemnet.cell import Cell
from gemnet.draw import draw_cell

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("nodes", [2, 9, 30, 64])
def test_every_node_and_edge_is_drawn_inside_the_picture(nodes, cell_of):
    cell = cell_of(nodes)
    picture = ET.fromstring(draw_cell(cell))
    _, _, width, height = map(float, picture.get("viewBox").split())
    groups = picture.findall(f"{SVG}g")
    assert [group.find(f"{SVG}text").text for group in groups] == [str(node) for node in range(nodes)]
    assert len(picture.findall(f"{SVG}path")) == len(cell.edges)
    centres = [(float(c.get("cx")), float(c.get("cy"))) for c in picture.iterfind(f"{SVG}g/{SVG}circle")]
    assert len(set(centres)) == nodes
    assert all(0 < x < width and 0 < y < height for x, y in centres)
    assert all(centres[i][1] < centres[j][1] for i, j in cell.edges)


def test_titles_are_escaped_and_heat_widens_rims(chain):
    picture = ET.fromstring(draw_cell(chain, {1: "<&>"}, {1: 1.0, 2: 0.5}))
    groups = picture.findall(f"{SVG}g")
    assert groups[1].find(f"{SVG}title").text == "<&>"
    rims = [float(group.find(f"{SVG}circle").get("stroke-width")) for group in groups]
    assert rims[0] < rims[2] < rims[1]


def test_an_unknown_op_is_drawn_too():
    assert "strange" in draw_cell(Cell(("input", "strange"), ((0, 1),)))
