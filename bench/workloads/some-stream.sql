\set stream random(:first, :first + :streams - 1)
