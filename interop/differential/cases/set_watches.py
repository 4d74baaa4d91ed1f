from cases import case
