module example.org/families

go 1.26.0
